"""From a composed configuration to a started job: resolvers, checks at the door, data, Ray and
verl.
"""
