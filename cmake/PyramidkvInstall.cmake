# What `cmake --install` writes, all of it relocatable:
#
#   bin/pyramidkv                         the command
#   include/pyramidkv/                    the public headers
#   lib/libpyramidkv.so                   the library
#   lib/pyramidkv/                        libllama and ggml, as they were built
#                                         with, apart from others' of that name
#   lib/cmake/pyramidkv/, lib/pkgconfig/  for find_package and pkg-config
#   share/doc/pyramidkv/                  licences
#   share/man/man1/                       manual pages, where help2man is there
#   share/bash-completion/completions/, share/zsh/site-functions/,
#   share/fish/vendor_completions.d/      completion scripts
include(CMakePackageConfigHelpers)

set(_private ${CMAKE_INSTALL_LIBDIR}/pyramidkv)
set(_config ${CMAKE_INSTALL_LIBDIR}/cmake/pyramidkv)
set(_doc ${CMAKE_INSTALL_DATAROOTDIR}/doc/pyramidkv)
set(_generated ${PROJECT_BINARY_DIR}/package)

# Where a file in the folder FROM of an install finds the private libraries.
function(pyramidkv_install_rpath TARGET FROM)
  file(RELATIVE_PATH _path /prefix/${FROM} /prefix/${_private})
  set_target_properties(${TARGET} PROPERTIES INSTALL_RPATH "$ORIGIN/${_path}")
endfunction()

pyramidkv_install_rpath(libpyramidkv ${CMAKE_INSTALL_LIBDIR})
install(TARGETS libpyramidkv EXPORT pyramidkvTargets
        RUNTIME_DEPENDENCY_SET pyramidkv_dependencies
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(PYRAMIDKV_BUILD_COMMAND)
  pyramidkv_install_rpath(pyramidkv ${CMAKE_INSTALL_BINDIR})
  install(TARGETS pyramidkv RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  # Asked of the command when it is installed: builds are not held up.
  find_program(HELP2MAN help2man)
  mark_as_advanced(HELP2MAN)
  set(_manual ${PROJECT_BINARY_DIR}/manual)
  install(CODE "execute_process(
    COMMAND \"${CMAKE_COMMAND}\" \"-DCOMMAND=$<TARGET_FILE:pyramidkv>\"
            \"-DVERSION=${PROJECT_VERSION}\" \"-DOUTPUT=${_manual}\"
            \"-DHELP2MAN=$<$<BOOL:${HELP2MAN}>:${HELP2MAN}>\"
            -P \"${CMAKE_CURRENT_LIST_DIR}/MakeManual.cmake\")")
  set(_share ${CMAKE_INSTALL_DATAROOTDIR})
  install(DIRECTORY ${_manual}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR}
          OPTIONAL)
  install(FILES ${_manual}/completion.bash OPTIONAL
          DESTINATION ${_share}/bash-completion/completions RENAME pyramidkv)
  install(FILES ${_manual}/completion.zsh OPTIONAL
          DESTINATION ${_share}/zsh/site-functions RENAME _pyramidkv)
  install(FILES ${_manual}/completion.fish OPTIONAL
          DESTINATION ${_share}/fish/vendor_completions.d
          RENAME pyramidkv.fish)
endif()
install(RUNTIME_DEPENDENCY_SET pyramidkv_dependencies
        PRE_INCLUDE_REGEXES "^lib(ggml|llama)" PRE_EXCLUDE_REGEXES ".*"
        LIBRARY DESTINATION ${_private})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/pyramidkv
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${_doc})
file(GLOB _llama_licence
     ${_llama_lib_dir}/../llama_cpp_python-*.dist-info/licenses/LICENSE*)
if(_llama_licence)
  install(FILES ${_llama_licence} DESTINATION ${_doc}
          RENAME LICENSE.llama-cpp-python)
endif()
install(FILES ${PYRAMIDKV_LLAMA_SOURCES}/LICENSE DESTINATION ${_doc}
        RENAME LICENSE.llama.cpp)

install(EXPORT pyramidkvTargets NAMESPACE pyramidkv:: DESTINATION ${_config})
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/pyramidkvConfig.cmake.in
  ${_generated}/pyramidkvConfig.cmake INSTALL_DESTINATION ${_config})
write_basic_package_version_file(
  ${_generated}/pyramidkvConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${_generated}/pyramidkvConfig.cmake
              ${_generated}/pyramidkvConfigVersion.cmake
        DESTINATION ${_config})

file(RELATIVE_PATH _prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${CMAKE_CURRENT_LIST_DIR}/pyramidkv.pc.in
               ${_generated}/pyramidkv.pc @ONLY)
install(FILES ${_generated}/pyramidkv.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
