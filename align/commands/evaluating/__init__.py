"""Options of single evaluators: a group each, which makes its evaluator."""
