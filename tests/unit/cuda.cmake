# SPDX-License-Identifier: Apache-2.0
# tide_cuda_unit(name …): a test of device memory, on the simulator. The plugin is the one that is shipped; it finds the
# simulator under the name of CUDA's own library.
function(tide_cuda_unit name)
  tide_unit(${name} LINK tide_client tide_stage sim_cudart)
  add_dependencies(test_${name} tidemark_cuda)
  set_target_properties(test_${name} PROPERTIES BUILD_RPATH "$<TARGET_FILE_DIR:tidemark_cuda>")
  if(TIDE_SANITIZE) # a sanitizer's dlopen does not know where the program's libraries are
    target_link_libraries(test_${name} PRIVATE -Wl,--no-as-needed tidemark_cuda)
  endif()
endfunction()

if(TARGET tidemark_cuda)
  tide_cuda_unit(cuda_regions)
  tide_cuda_unit(cuda_home)
  tide_cuda_unit(cuda_sim)
  tide_cuda_unit(cuda_killed)
endif()

if(TARGET tide_cuda_planes AND NOT TIDE_SANITIZE) # with sanitizers unit/planes_thread does
  tide_unit(cuda_planes LINK tide_cuda_planes tide_format sim_cudart)
  target_sources(test_cuda_planes PRIVATE planes_kernels.c)
  set_target_properties(test_cuda_planes PROPERTIES ENABLE_EXPORTS ON) # the simulator looks for them there
endif()

# tide_nccl_unit(name LIBRARIES …): a test of NCCL, on both simulators, with the libraries before NCCL's.
function(tide_nccl_unit name)
  tide_unit(${name} LINK -Wl,--no-as-needed ${ARGN} sim_nccl sim_cudart)
endfunction()

if(TARGET sim_nccl)
  tide_nccl_unit(nccl_sim tide_agent_health)
  tide_nccl_unit(nccl_counts tide_cut tidemark_nccl)
  tide_nccl_unit(nccl_held tide_cut tidemark_nccl)
  tide_nccl_unit(nccl_marks tide_cut tidemark_nccl)
  tide_nccl_unit(nccl_beside tide_cut tidemark_nccl)
endif()
