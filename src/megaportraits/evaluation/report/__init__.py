"""Reports: results with intervals as JSON, tables, plots, contact sheets and an HTML page."""
