"""AEPO's rules in verl. `import aepo_verl` registers the losses `aepo` and `gppo`."""

from aepo_verl.losses import register

register()
