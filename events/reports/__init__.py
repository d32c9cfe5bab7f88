"""Reports: tables, warnings and lines for people, computed from projections."""
