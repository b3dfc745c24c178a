"""The paper's figures with numbers behind them (`anystory figures`), each drawn from a model that is named."""
