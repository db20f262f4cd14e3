"""Pure placement planning: spec + model shape + GPU shape -> device maps, memory fit, predicted ceiling."""
