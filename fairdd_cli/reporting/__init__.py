"""Reports: evaluations read, pooled and compared, as text, figures and a page."""
