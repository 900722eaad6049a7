"""Records become rankings, comparisons, breakdowns, tables, LaTeX and a plain page."""
