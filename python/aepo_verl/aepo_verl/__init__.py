"""AEPO's rules in verl: `import aepo_verl` registers the losses `aepo` and `gppo` and the advantage `aepo`.

`aepo_verl.trainer` hands entropies to the advantage, and `aepo_verl.agent_loop` fetches trees of `aepo serve --rollouts`.
"""

from aepo_verl import advantage, losses

losses.register()
advantage.register()
