"""What HdrHistogram's own package reads in an interval log: PATH.

A line of JSON for each interval, then one for each tag with the percentiles of all its intervals.
"""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 3_600_000_000_000, 3))
totals = {}
while interval := reader.get_next_interval_histogram():
    recorded = [
        [item.value_iterated_to, item.count_at_value_iterated_to]
        for item in interval.get_recorded_iterator()
    ]
    print(json.dumps({
        "tag": interval.get_tag(),
        "start_ms": interval.get_start_time_stamp(),
        "end_ms": interval.get_end_time_stamp(),
        "recorded": recorded,
    }))
    total = totals.setdefault(interval.get_tag(), HdrHistogram(1, 3_600_000_000_000, 3))
    total.add(interval)
for tag, total in totals.items():
    values = {level: total.get_value_at_percentile(level) for level in (50, 90, 99, 99.9, 99.99, 100)}
    print(json.dumps({"total": tag, "count": total.get_total_count(), "values": values}))
