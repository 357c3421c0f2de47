"""The catalog: who there is, which turns they have, which blocks those use. A SQLite database that one thread owns.

`thread.Catalog` runs work on it; each other module holds the work of one topic, as functions of the connection.
"""
