"""The wait report: what a program waited for, as a Chrome trace and as a page for the browser.

``recording`` collects the records of all waits, ``trace`` writes and reads the Chrome trace event format, ``page`` makes
one self-contained HTML page of it. All of them speak of a wait as one :class:`waitkit.report.rows.Row`.
"""
