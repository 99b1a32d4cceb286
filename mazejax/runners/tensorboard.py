"""TensorBoard's records, made of its protos: scalars, histograms, figures, hyper-parameters.

Bytes that are appended to an event file, and nothing that keeps a file: tensorboardX's
own writer has a queue and a thread, which lose what is pending at a kill and wait for
ever once the disk is full.
"""

import io
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mazejax.events.distribution import Distribution
from mazejax.runners.checksum import masked_crc32c


def version_record() -> bytes:
    """The record with which every event file begins."""
    return _record(_event(file_version="brain.Event:2"))


def restart_record(step: int) -> bytes:
    """Tells TensorBoard to forget what earlier files say of this step and later ones."""
    from tensorboardX.proto.event_pb2 import SessionLog

    return _record(_event(step=step, session_log=SessionLog(status=SessionLog.START)))


def summary_record(step: int, values: Sequence[Any]) -> bytes:
    """What was measured at a step."""
    from tensorboardX.proto.summary_pb2 import Summary

    return _record(_event(step=step, summary=Summary(value=values)))


def scalar(tag: str, value: float) -> Any:
    """A scalar for `summary_record`."""
    from tensorboardX.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=value)


def histogram(tag: str, distribution: Distribution) -> Any:
    """A histogram with the distribution's own bins, of a vector of all its entries together.

    Moments are those of values in the middle of their bins.
    """
    from tensorboardX.proto.summary_pb2 import HistogramProto, Summary

    edges = np.asarray(distribution.edges, np.float64)
    counts = np.asarray(distribution.counts, np.float64).reshape(-1, len(edges) - 1).sum(axis=0)
    centers = (edges[:-1] + edges[1:]) / 2
    proto = HistogramProto(
        min=edges[0],  # TensorBoard takes it for the left edge of the first bin
        max=edges[-1],
        num=counts.sum(),
        sum=counts @ centers,
        sum_squares=counts @ centers**2,
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return Summary.Value(tag=tag, histo=proto)


def figure(tag: str, distribution: Distribution) -> Any:
    """The distribution as it is best looked at, as a PNG image."""
    from tensorboardX.proto.summary_pb2 import Summary

    from mazejax.rendering.distributions import draw_distribution

    drawn, png = draw_distribution(distribution, title=tag), io.BytesIO()
    drawn.savefig(png, format="png")
    width, height = drawn.canvas.get_width_height()
    image = Summary.Image(
        height=height, width=width, colorspace=4, encoded_image_string=png.getvalue()
    )
    # A tag belongs to one of TensorBoard's tabs, and this one to that of histograms.
    return Summary.Value(tag=f"{tag}/figure", image=image)


def session(hyperparameters: Mapping[str, Any]) -> list[Any]:
    """A run's hyper-parameters for the HPARAMS tab: numbers, bools and texts."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import SessionEndInfo, SessionStartInfo

    start = SessionStartInfo()
    for name, value in hyperparameters.items():
        setattr(start.hparams[name], _KINDS[type(value)][0], value)
    end = SessionEndInfo(status=Status.Value("STATUS_SUCCESS"))
    return [
        _hparams("_hparams_/session_start_info", session_start_info=start),
        _hparams("_hparams_/session_end_info", session_end_info=end),
    ]


def experiment(hyperparameters: Mapping[str, Any], metrics: Sequence[str]) -> Any:
    """What the HPARAMS tab has columns for: names with an example of each, and scalar tags."""
    from tensorboardX.proto.api_pb2 import (
        DataType,
        Experiment,
        HParamInfo,
        MetricInfo,
        MetricName,
    )

    columns = [
        HParamInfo(name=name, type=DataType.Value(_KINDS[type(value)][1]))
        for name, value in hyperparameters.items()
    ]
    measured = [MetricInfo(name=MetricName(tag=tag)) for tag in metrics]
    content = Experiment(hparam_infos=columns, metric_infos=measured)
    return _hparams("_hparams_/experiment", experiment=content)


_KINDS = {
    bool: ("bool_value", "DATA_TYPE_BOOL"),
    int: ("number_value", "DATA_TYPE_FLOAT64"),
    float: ("number_value", "DATA_TYPE_FLOAT64"),
    str: ("string_value", "DATA_TYPE_STRING"),
}


def _hparams(tag: str, **content: Any) -> Any:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    data = HParamsPluginData(version=0, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))


def _event(**fields: Any) -> Any:
    from tensorboardX.proto.event_pb2 import Event

    return Event(wall_time=time.time(), **fields)


def _record(event: Any) -> bytes:
    """Length, its checksum, content, its checksum."""
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + checks[0] + content + checks[1]
