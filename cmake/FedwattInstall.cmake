# What `cmake --install` leaves: every room as a target Fedwatt::<room>, its headers, the binaries, the wire contract.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY FEDWATT_ROOMS)
install(TARGETS ${rooms} EXPORT FedwattTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT FedwattTargets NAMESPACE Fedwatt:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Fedwatt)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/FedwattConfig.cmake.in ${PROJECT_BINARY_DIR}/FedwattConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Fedwatt)
# Before 1.0 any minor version may break.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/FedwattConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/FedwattConfig.cmake ${PROJECT_BINARY_DIR}/FedwattConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Fedwatt)

# The generated headers are there for rpc's; the promise is the .proto files, from which other languages generate.
if(TARGET fedwatt_proto)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/proto/fedwatt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.pb.h")
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/proto/ DESTINATION ${CMAKE_INSTALL_DATADIR}/fedwatt/proto FILES_MATCHING PATTERN "*.proto")
install(FILES ${PROJECT_SOURCE_DIR}/energy/data/devices.json ${PROJECT_SOURCE_DIR}/energy/data/network.json DESTINATION ${CMAKE_INSTALL_DATADIR}/fedwatt)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
foreach(binary IN ITEMS fedwatt fedwatt-client fedwatt-fleet fedwatt-server fedwatt-trainer)
  if(TARGET ${binary})
    install(TARGETS ${binary} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
