"""Everything that reads a Hugging Face checkpoint, so that it is done in one way.

    places.py             folders, names on the hub, devices; what is in the cache without a network
    checkpoints.py        configurations, tokenizers and models: `load_checkpoint`
    adapters.py           LoRA adapters, old and new, on a copy of a model
    sentence_encoders.py  encoders of sentence-transformers
    fingerprint.py        which model this is
    libraries.py          importing torch, which no signal may interrupt
    hf_logging.py         loading without what the libraries print
    instructions.py       requests that a model trained for safety refuses, and others like them
    key_values.py         the cache of keys and values by the name that transformers uses

Code that comes with a checkpoint is never run and never asked about, pickles are read as weights
alone, weights that are missing are an error, and every error is one line. No other module calls
`from_pretrained`.
"""
