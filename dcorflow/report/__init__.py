"""The report: tables, the last lines of a run, its verdict, and the page that shows it all."""
