# SPDX-License-Identifier: Apache-2.0
# What a training process pays (bench_step, bench_cut), how fast a checkpoint moves (bench_stage, persist) and is encoded (bench_encode).
add_executable(bench_step ${CMAKE_CURRENT_LIST_DIR}/bench_step.c)
target_link_libraries(bench_step PRIVATE tide_flags tidemark_client)

pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
add_executable(bench_stage ${CMAKE_CURRENT_LIST_DIR}/bench_stage.c)
target_link_libraries(bench_stage PRIVATE tide_client tide_stage PkgConfig::CMOCKA PkgConfig::ZSTD Threads::Threads)
add_executable(bench_encode ${CMAKE_CURRENT_LIST_DIR}/bench_encode.c)
target_link_libraries(bench_encode PRIVATE tide_stage PkgConfig::ZSTD m)
add_executable(bench_cut ${CMAKE_CURRENT_LIST_DIR}/bench_cut.c)
target_link_libraries(bench_cut PRIVATE tide_client tide_stage PkgConfig::CMOCKA Threads::Threads)

# The load of bench_persist.sh and bench_s3.sh.
add_executable(persist persist.c)
target_link_libraries(persist PRIVATE tide_agent_rpc tide_stage)

# From another agent's memory.
add_executable(bench_peer ${CMAKE_CURRENT_LIST_DIR}/bench_peer.c)
target_link_libraries(bench_peer PRIVATE tide_agent_rpc PkgConfig::CMOCKA PkgConfig::CRYPTO)

# Back from a store, with helpers and on another number of ranks.
add_executable(bench_back ${CMAKE_CURRENT_LIST_DIR}/bench_back.c)
target_link_libraries(bench_back PRIVATE tide_stage PkgConfig::CMOCKA)
