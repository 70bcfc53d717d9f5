"""Many runs from one command: which points there are, which are left, and who runs them.

`study` reads a study's sweep file, `points` makes its points, `plan` looks what is finished and
what the rest costs, a launcher (`processes`, `ray_jobs`, or any of Hydra's, such as submitit's for
SLURM) runs what is left, and `outcome` says what became of it. `hydra_plugins.tinylora_rl` puts
`sweep`, which does all that, where Hydra looks for a sweeper.
"""
