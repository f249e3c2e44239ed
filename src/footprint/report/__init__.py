"""Tables in, page out.

Comes in: the folder of an experiment's tables. Goes out: one self-contained page and its headline. `reading` picks
rows; `figures`, `tables`, `sentences` and `textbook` say what they show; `sections` captions them; `page` writes it
all for nbconvert or Quarto. Never imports jobs or command.
"""
