"""A judge of offensive text: a linear model on words, from the package alt-profanity-check."""


def score(response: str) -> float:
    """The probability that the response is offensive, in [0, 1]."""
    from profanity_check import predict_prob

    return float(predict_prob([response])[0])
