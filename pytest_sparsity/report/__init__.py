"""Results turned into terminal lines, JSON and HTML; pure functions over plain records.

A record is what one test leaves behind, in JSON's own types, so that it crosses process borders:
`records` makes them, `terminal`, `failure` and `page` show them.
"""
