"""Many runs from one command.

`study` reads a study's sweep file, `points` makes its points, `plan` looks what is finished and
what the rest costs, a launcher (`jobs`, `ray_jobs`, or any of Hydra's, such as submitit's for
SLURM) runs what is left; `sweep` does all that, and `hydra_plugins.tinylora_rl` starts it.
"""
