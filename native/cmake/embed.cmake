# SPDX-License-Identifier: Apache-2.0
# cmake -DINPUT=file -DOUTPUT=file.cc -DNAME=kName -P embed.cmake: the bytes of a file as a constant, so that a program carries its BPF
# objects instead of looking for them at run time: no path to configure, none to get wrong, no version that does not fit.
file(READ ${INPUT} content HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${content}")
file(WRITE ${OUTPUT} "// Made by embed.cmake.
#include <cstddef>
namespace outrigger::io::xdp {
alignas(8) extern const unsigned char ${NAME}[] = {${bytes}};
extern const size_t ${NAME}Length = sizeof(${NAME});
}  // namespace outrigger::io::xdp
")
