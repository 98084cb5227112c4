"""Times onnxruntime's entropy calibration on samples of one tensor, as bench/kl.ts calls it: the threshold search alone.

usage: peer_entropy.py SAMPLES.f32 RUNS
"""
import json
import sys
import time

import numpy as np
import onnxruntime
from onnxruntime.quantization.calibrate import HistogramCollector

file, runs = sys.argv[1:]
# By default onnxruntime takes 128 bins for 128 levels, which leaves one candidate: min-max.
BINS, LEVELS = 2048, 128
collector = HistogramCollector("entropy", False, BINS, LEVELS, None, None)
collector.collect_value({"x": np.fromfile(file, dtype=np.float32)})
histogram = collector.get_histogram_dict()["x"]

seconds = []
for _ in range(int(runs)):
    start = time.perf_counter()
    low, high = collector.get_entropy_threshold(histogram, LEVELS)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"version": onnxruntime.__version__, "seconds": seconds, "low": float(low), "high": float(high)}))
