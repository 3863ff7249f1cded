"""The JSON data source: its routes and the engine behind them."""
