"""The page itself: HTML for nbconvert, Markdown for Quarto, figures as SVG, numbers as people read them."""
