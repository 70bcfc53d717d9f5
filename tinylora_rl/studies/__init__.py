"""From run directories to the paper's tables and figures, and to the dashboards. No torch."""
