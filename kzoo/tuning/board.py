"""A trial's hyper-parameters and score for TensorBoard's HParams page."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_session(
    folder: Path, name: str, values: Mapping[str, Any], scores: Mapping[str, float]
) -> None:
    """Writes a finished session into the folder of a run's events.

    TensorBoard's own function for it imports TensorFlow; its messages do not.

    Args:
        folder: ``tensorboard/`` of a run, which its :class:`Record` has made.
        name: of the trial.
        values: its hyper-parameters.
        scores: of its kept weights.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    start = plugin_data_pb2.SessionStartInfo(group_name=name, start_time_secs=now)
    for key, value in values.items():
        kind = "string_value" if isinstance(value, str) else "number_value"
        kind = "bool_value" if isinstance(value, bool) else kind
        setattr(start.hparams[key], kind, value)
    end = plugin_data_pb2.SessionEndInfo(
        status=api_pb2.STATUS_SUCCESS, end_time_secs=now
    )
    told = {
        metadata.SESSION_START_INFO_TAG: {"session_start_info": start},
        metadata.SESSION_END_INFO_TAG: {"session_end_info": end},
    }
    writer = EventFileWriter(str(folder), filename_suffix=".hparams")
    for tag, facts in told.items():
        content = plugin_data_pb2.HParamsPluginData(
            version=metadata.PLUGIN_DATA_VERSION, **facts
        )
        plugin = SummaryMetadata.PluginData(
            plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
        )
        value = Summary.Value(
            tag=tag,
            metadata=SummaryMetadata(plugin_data=plugin),
            tensor=metadata.NULL_TENSOR,
        )
        writer.add_event(Event(wall_time=now, summary=Summary(value=[value])))
    for key, score in scores.items():
        value = Summary.Value(tag=f"score/{key}", simple_value=score)
        writer.add_event(Event(wall_time=now, step=0, summary=Summary(value=[value])))
    writer.close()
