# SPDX-License-Identifier: Apache-2.0
tide_unit(store LINK tide_store)
tide_unit(format LINK tide_format)
tide_unit(arena LINK tide_stage)
tide_unit(stage LINK tide_stage)
target_compile_definitions(test_stage PRIVATE TEST_DATA="${CMAKE_CURRENT_LIST_DIR}/data")
tide_unit(client LINK tide_client tide_stage)
tide_unit(client_arming LINK tide_client tide_stage)
tide_unit(client_prefault LINK tide_client tide_stage)
