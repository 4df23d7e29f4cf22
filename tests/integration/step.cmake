# SPDX-License-Identifier: Apache-2.0
# What step.sh runs under a real tidemark-step: a program with trouble on demand, and an MPI ring.
add_executable(step_rank step_rank.c)
target_link_libraries(step_rank PRIVATE tide_flags tide_wire)
set_target_properties(step_rank PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)

# Preloaded, they make slow what is fast on most days.
foreach(shim slow_reap slow_disk)
  add_library(${shim} MODULE ${shim}.c)
  target_link_libraries(${shim} PRIVATE tide_flags)
  set_target_properties(${shim} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endforeach()

find_package(MPI COMPONENTS C)
if(MPI_C_FOUND)
  add_executable(mpi_ring mpi_ring.c)
  target_link_libraries(mpi_ring PRIVATE tide_flags MPI::MPI_C)
  set_target_properties(mpi_ring PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endif()
