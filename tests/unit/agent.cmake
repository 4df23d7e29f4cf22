# SPDX-License-Identifier: Apache-2.0
tide_unit(agent_step LINK tide_agent_core)
tide_unit(agent_cut LINK tide_agent_core)
tide_unit(agent_epoch LINK tide_agent_core)
tide_unit(agent_restore LINK tide_agent_core)
tide_unit(agent_frame LINK tide_agent_rpc)
tide_unit(agent_logs LINK tide_agent_rpc)
tide_unit(agent_pages LINK tide_agent_rpc)
tide_unit(agent_dirs LINK tide_agent_rpc)
tide_unit(agent_mesh LINK tide_agent_rpc)
tide_unit(health_probes LINK tide_agent_health)
tide_unit(health_book LINK tide_agent_health)
tide_unit(health_watch LINK tide_agent_watch)
# NVML is opened by its name: the simulator has it.
add_dependencies(test_health_watch sim_nvml)
set_target_properties(test_health_watch PROPERTIES BUILD_RPATH "${PROJECT_BINARY_DIR}/sim_nvml")
if(TIDE_SANITIZE) # a sanitizer's dlopen does not know where the program's libraries are
  target_link_libraries(test_health_watch PRIVATE -Wl,--no-as-needed sim_nvml)
endif()
