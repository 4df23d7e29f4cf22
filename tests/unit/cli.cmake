# SPDX-License-Identifier: Apache-2.0
tide_unit(cli_units LINK tide_cli)
tide_unit(cli_option LINK tide_cli)
tide_unit(cli_tables LINK tide_cli)
tide_unit(cli_term LINK tide_cli)
tide_unit(cli_run_spec LINK tide_cli)
tide_unit(cli_complete LINK tide_cli)
tide_unit(store_check LINK tide_cli)

# A stand-in for the API that tests/cli/run.sh checks the output against.
add_executable(stub_api ${CMAKE_CURRENT_LIST_DIR}/../cli/stub_api.c)
target_link_libraries(stub_api PRIVATE tide_base PkgConfig::MHD)
