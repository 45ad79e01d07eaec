#!/bin/sh
# Installs into a folder, moves the folder, and builds a program against it with pkg-config and with CMake, shared and
# static. Ends with a line `N passed, N failed`. A tool that is not there is said to be missing and counts for nothing.
set -eu

build=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# The program prints the version of the library that it runs with.
expect_version () {
    name=$1
    shift
    if [ "$("$@" 2>&1)" = "$version" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name" >&2
    fi
}

${MAKE:-make} --silent -C "$here/../.." install BUILD="$build" DESTDIR="$work/stage" PREFIX=/first
mv "$work/stage/first" "$work/moved"
prefix=$work/moved
version=$(sed -n 's/^Version: //p' "$prefix/lib/pkgconfig/majordomo.pc")

if command -v readelf > /dev/null; then
    soname=$(readelf -d "$prefix/lib/libmajordomo.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
    expect_version "the link of the soname $soname exists" sh -c "test -e '$prefix/lib/$soname' && echo $version"
fi

if command -v nm > /dev/null; then
    # Nothing but the functions of the header is visible: another libzmq may live in the same process.
    nm -D --defined-only "$prefix/lib/libmajordomo.so" | awk '$2 == "T" { print $3 }' | sort > "$work/exported"
    grep -o '\bmd[a-z_]*(' "$prefix/include/majordomo.h" | tr -d '(' | sort -u > "$work/declared"
    expect_version "the library exports what the header declares and nothing else" \
        sh -c "comm -23 '$work/exported' '$work/declared' >&2; diff '$work/exported' '$work/declared' > /dev/null && echo $version"
fi

if command -v pkg-config > /dev/null; then
    export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
    # shellcheck disable=SC2046
    ${CC:-cc} -std=c99 "$here/version.c" -o "$work/shared" $(pkg-config --cflags --libs majordomo)
    expect_version "shared, by pkg-config" env LD_LIBRARY_PATH="$prefix/lib" "$work/shared"
    # shellcheck disable=SC2046
    ${CC:-cc} -std=c99 "$here/version.c" -o "$work/static" $(pkg-config --cflags majordomo) \
        "$prefix/lib/libmajordomo.a" $(pkg-config --static --libs-only-l majordomo | sed 's/-lmajordomo//')
    expect_version "static, by pkg-config" "$work/static"
else
    echo 'pkg-config is missing: not tested' >&2
fi

if command -v cmake > /dev/null; then
    cmake -S "$here" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" > "$work/log" 2>&1 &&
        cmake --build "$work/cmake" >> "$work/log" 2>&1 || cat "$work/log" >&2
    expect_version "shared, by CMake" "$work/cmake/shared"
    expect_version "static, by CMake" "$work/cmake/static"
    expect_version "C++, by CMake" "$work/cmake/cplusplus"
else
    echo 'cmake is missing: not tested' >&2
fi

echo "$passed passed, $failed failed"
test "$failed" -eq 0
