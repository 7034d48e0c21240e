"""What every package speaks of, and nothing above it: prompts, draws, contracts, options, text.

prompt, contract     what is asked, what it means, and the records of draws and verdicts
options, plugins     options declared once; what other packages add by entry points
outside, thinking,   text and numbers of others' making; what a reasoning model thinks; why a
finish_reasons       response ended
steps, interrupts    progress, notices and accounts; what a signal must not cut in two
extras               which optional parts are installed
"""
