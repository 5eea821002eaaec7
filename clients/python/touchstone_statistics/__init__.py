"""The statistics of experiments: pure functions of numpy arrays, without input or output.

A result is read in four steps, each an object that can be used alone: `Moments` of the units of
each arm, an `Estimate` of an estimand by its gradient, a `Contrast` of a treatment with the
control, and a reading of the contrast by one of several kinds of inference. Every array may have
batch axes in front (metrics, slices, treatments), and a quantity that the data cannot answer
carries a `Gap` that says why, never NaN and never a made-up zero.

It needs numpy and scipy and nothing else.
"""
