"""Memory on disk: block files, turn records and the catalog. Bytes and numpy only; knows no MLX and no network."""
