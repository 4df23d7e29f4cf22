# SPDX-License-Identifier: Apache-2.0
tide_unit(step_exchange LINK tide_step_parts)
tide_unit(step_bookmark LINK tide_step_parts)
tide_unit(step_share LINK tide_step_parts)
tide_unit(step_output LINK tide_step_parts)
tide_unit(step_environ LINK tide_step_parts)
tide_unit(step_spawn LINK tide_step_parts)
