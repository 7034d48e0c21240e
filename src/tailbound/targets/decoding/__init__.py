"""In-process decoding of Hugging Face models: exact, batched and reproducible.

    encoding.py       prompts to token ids, and back to text
    batched_model.py  one forward pass of many rows, each at its own position
    attention.py      attention of one new token per row, for CPUs
    cache.py          keys and values of those rows
    prompt_cache.py   prompts that have been read once, shared by all of their draws
    memory.py         how much memory there is for them
    rng.py            the random numbers of a draw, Gumbel numbers from them
    distribution.py   logits to tokens and log-densities
    fp64_fallback.py  the canonical decision where rounding could change a token
    decoder.py        the loop that keeps the batch full
    scoring.py        the same density, teacher-forced
    model.py          all of it behind the seam of `tailbound.targets`

Everything here but `rng` imports torch: import it inside functions.
"""
