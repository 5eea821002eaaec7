"""Between the contract's messages and the columns of the event tables."""
