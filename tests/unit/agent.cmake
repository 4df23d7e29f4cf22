# SPDX-License-Identifier: Apache-2.0
tide_unit(agent_step LINK tide_agent_core)
tide_unit(agent_cut LINK tide_agent_core)
tide_unit(agent_restore LINK tide_agent_core)
tide_unit(agent_frame LINK tide_agent_rpc)
tide_unit(agent_logs LINK tide_agent_rpc)
tide_unit(agent_pages LINK tide_agent_rpc)
tide_unit(agent_dirs LINK tide_agent_rpc)
