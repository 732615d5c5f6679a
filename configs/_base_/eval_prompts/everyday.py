"""Ten everyday questions whose topics stand in no row of pairs.jsonl, scored by the shape of the answer."""

eval_prompts = "xft://pairs_questions.jsonl"
