"""Write a measurement in the old .tdms format with its side files, as Shape-In 2.0 did."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from demo_cells import (
    CHANNEL_WIDTH,
    FRAME_RATE,
    PIXEL_SIZE,
    SAMPLE_RATE,
    SAMPLES_PER_EVENT,
    Events,
    simulate,
)
from nptdms import ChannelObject, GroupObject, RootObject, TdmsWriter

#: Channels of the group `Cell Track` and the features they hold (see dclab's fmt_tdms.naming).
CHANNELS = {
    "time": "frame",  # the format calls the frame number time
    "x": "pos_x",
    "y": "pos_y",
    "ax1": "size_y",
    "ax2": "size_x",
    "circularity": "circ",
    "area": "area_cvx",
    "raw area": "area_msd",
    "Brightness": "bright_avg",
    "BrightnessSD": "bright_sd",
    "InertiaRatio": "inert_ratio_cvx",
    "InertiaRatioRaw": "inert_ratio_raw",
} | {
    f"FL{channel}{tdms}": f"fl{channel}_{feature}"
    for channel in (1, 2, 3)
    for tdms, feature in (("max", "max"), ("width", "width"), ("area", "area"), ("pos", "pos"))
}

PARA_INI = """[General]
Software Version = ShapeIn 2.0.1
Measurement Number = {run}
Shutter Time LED [us] = 2
Sample Name = {sample}
Flow Rate [ul/s] = 0.06
Sheath Flow Rate [ul/s] = 0.045
Sample Flow Rate [ul/s] = 0.015
Region = "Channel"
Channel width [um] = {channel_width:g}
Video Frame Offset = 0
Buffer Medium = CellCarrier B
Date [YYYY-MM-DD] = 2017-10-12
Start Time [hh:mm:ss] = 16:42:40
Identifier = ZMDD-AcC-a8548d-ce00be

[Image]
Setup = AcCellerator + FluorescenceModule
Bin Ops = 5
Blur = 0
Diff_Method = 1
Pix Size = {pixel_size:g}
Thresh = -6
Trig Thresh = 10

[FLUOR]
Samplerate [sps] = {sample_rate}
Samples Per Event = {samples}
Bitdepthraw = 16
ADCmin [V] = -1
ADCmax [V] = 1
FL-Channels = 3
Channels Installed = 3
Channel 1 Name = 525/50
Channel 2 Name = 593/46
Channel 3 Name = 700/75
Laser Count = 2
Lasers Installed = 3
Laser1 488 nm Power [%] = 8
Laser3 640 nm Power [%] = 100
Trace Median = 3
"""

CAMERA_INI = """[Framerate]
Shutter Time = 20
Frame Rate = {frame_rate:g}
Tap Mode = 10x8 Bit
Tap Code = 6

[ROI]
x-pos = 605
y-pos = 540
width = {width}
height = {height}
"""


def write_tdms(folder: str | Path, name: str = "M1_data", events: int = 40, seed: int = 0) -> Path:
    """Write `<name>.tdms` with its side files into `folder` and return its path.

    `name` is `M<number>` or begins with `M<number>_`; the side files are `M<number>_para.ini`,
    `_camera.ini`, `_contours.txt`, `_imaq.avi` (lossless) and `<name>_traces.tdms`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = name.split("_")[0]
    simulated = simulate(events, seed, sample="beads")
    path = folder / f"{name}.tdms"
    _write_channels(path, simulated)
    _write_traces(folder / f"{name}_traces.tdms", simulated)
    height, width = simulated.image.shape[1:]
    para = PARA_INI.format(
        run=int(prefix[1:]),
        sample=f"beads {seed}",
        channel_width=CHANNEL_WIDTH,
        pixel_size=PIXEL_SIZE,
        sample_rate=SAMPLE_RATE,
        samples=SAMPLES_PER_EVENT,
    )
    camera = CAMERA_INI.format(frame_rate=FRAME_RATE, width=width, height=height)
    (folder / f"{prefix}_para.ini").write_text(para, encoding="utf-8")
    (folder / f"{prefix}_camera.ini").write_text(camera, encoding="utf-8")
    _write_contours(folder / f"{prefix}_contours.txt", simulated)
    _write_video(folder / f"{prefix}_imaq.avi", simulated.image)
    return path


def _write_channels(path: Path, simulated: Events) -> None:
    group = "Cell Track"
    objects = [RootObject({"name": "ShapeIn data file", "title": " "}), GroupObject(group)]
    for channel, feature in CHANNELS.items():
        kind = np.int16 if channel.endswith("max") else np.float32
        objects.append(ChannelObject(group, channel, simulated.scalars[feature].astype(kind)))
    starts = np.arange(len(simulated), dtype=np.int32) * SAMPLES_PER_EVENT
    objects.append(ChannelObject(group, "FL1index", starts))
    with TdmsWriter(str(path)) as writer:
        writer.write_segment(objects)


def _write_traces(path: Path, simulated: Events) -> None:
    group = "fluorescence traces"
    objects = [RootObject({"name": "ShapeIn Fluo Traces file"}), GroupObject(group)]
    for name, data in simulated.trace.items():
        channel = name.upper().replace("_RAW", "raw").replace("_MEDIAN", "med")
        objects.append(ChannelObject(group, channel, data.reshape(-1)))
    with TdmsWriter(str(path)) as writer:
        writer.write_segment(objects)


def _write_contours(path: Path, simulated: Events) -> None:
    """Write the outermost pixels of each mask as `( x , y )`, in the order of their angle."""
    parts = []
    for mask, frame in zip(simulated.mask > 0, simulated.scalars["frame"], strict=True):
        padded = np.pad(mask, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        y, x = np.nonzero(mask & ~core)
        order = np.argsort(np.arctan2(y - y.mean(), x - x.mean()), kind="stable")
        points = "".join(f"( {x[i]} , {y[i]} )\n" for i in order)
        parts.append(f"\nContour in frame {int(frame)} \n{points}")
    path.write_text("".join(parts), encoding="utf-8")


def _write_video(path: Path, images: np.ndarray) -> None:
    """Write images (events, height, width) as lossless grayscale video, one frame per event."""
    height, width = images.shape[1:]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", "25"]
    command += ["-i", "-", "-c:v", "rawvideo", "-pix_fmt", "gray"]
    # bit-exact output holds neither version numbers nor times
    command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", str(path)]
    subprocess.run(command, input=images.tobytes(), check=True, capture_output=True)
