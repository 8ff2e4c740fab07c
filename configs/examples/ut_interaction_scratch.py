"""UT-Interaction alone, from random weights: the row to hold ut_interaction_sports.py against.

omnisource train configs/examples/ut_interaction_scratch.py sources.ut_interaction.root=DATA/ut_interaction
"""

from dataclasses import replace
from pathlib import Path

from omnisource import Recipe, load_config

joint = load_config(str(Path(__file__).with_name("ut_interaction_sports.py")), Recipe)

recipe = replace(
    joint,
    label_spaces={"interactions": joint.label_spaces["interactions"]},
    sources={"ut_interaction": joint.sources["ut_interaction"]},
)
