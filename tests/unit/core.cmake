# SPDX-License-Identifier: Apache-2.0
tide_unit(core_life LINK tide_core)
tide_unit(core_cut LINK tide_core)
tide_unit(core_store LINK tide_core)
tide_unit(core_apply LINK tide_core)
tide_unit(core_nodes LINK tide_core)
tide_unit(core_bounds LINK tide_core)
tide_unit(core_tokens LINK tide_core)
