"""What can be asked for, and in which columns it is answered.

Comes in: names and sizes as people write them. Goes out: frozen specs of models, runs and training, each checked where
it is made; the runs of a grid; the columns of every table; the points of a timeline. Never imports another room.
"""
