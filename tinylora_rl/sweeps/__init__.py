"""Many runs from one command.

`points` makes the points of a study or command line, `plan` looks what is finished and what the
rest costs, a launcher (`jobs`, `ray_jobs`, or any of Hydra's, such as submitit's for SLURM) runs
what is left; `sweep` does all that, and `hydra_plugins.tinylora_rl` starts it.
"""
