"""The tokenizer, the model and its adapter: loading, precision, quantisation, frozen copies."""
