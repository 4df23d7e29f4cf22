# SPDX-License-Identifier: Apache-2.0
tide_unit(cli_units LINK tide_cli)
tide_unit(cli_option LINK tide_cli)
tide_unit(cli_tables LINK tide_cli)
tide_unit(cli_term LINK tide_cli)
tide_unit(cli_run_spec LINK tide_cli)
tide_unit(cli_complete LINK tide_cli)
