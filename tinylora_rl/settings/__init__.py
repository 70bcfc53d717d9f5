"""Settings: a composed Hydra configuration, read once into frozen dataclasses.

    experiment = read(config)            # of train or sft; every value checked, or one ConfigError
    experiment.method.label, experiment.batch.prompts, experiment.hardware.kind
    tree = experiment.for_verl()         # verl's own tree, otherwise untouched

No other package reads OmegaConf. `in_workers` is the part that travels to verl's workers.
"""
