// Containers that break their own rules, each with the line that says why.

#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/stat.h>

#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/experiments/trace/trace_answer.h"
#include "tests/experiments/trace/trace_files.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

const std::string again = "; record or copy it again";

TestTrace sample() {
    return sample_trace(DataType::bf16, false);
}

TEST(DamagedContainer, WhatIsNoContainer) {
    const std::string none = "begins like none of the files a trace can be; give a safetensors, HDF5 or .npz file";
    EXPECT_EQ(answer(""), none);
    EXPECT_EQ(answer("{}"), none);
    EXPECT_EQ(answer(std::string(100, 'x')), none);
    EXPECT_EQ(answer("\x93NUMPY" + std::string(100, ' ')), none);
    const TemporaryFolder folder;
    EXPECT_EQ(answer_to(folder / "missing"), "cannot be read: No such file or directory");
    EXPECT_EQ(answer_to(folder / "."), "is a folder; give the path of a regular file");
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_EQ(answer_to(folder / "pipe"), "is a pipe; give the path of a regular file");
}

/// A safetensors file whose header was changed as JSON.
std::string with_header(const std::function<void(nlohmann::json&)>& change) {
    const std::string bytes = safetensors_bytes(sample());
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
    change(header);
    return answer(safetensors_bytes(header.dump(), bytes.substr(8 + length)));
}

TEST(DamagedTrace, HeadersOfSafetensors) {
    using nlohmann::json;
    EXPECT_EQ(with_header([](json&) {}), "accepted");
    EXPECT_EQ(with_header([](json& header) { header["q"]["data_offsets"][1] = 99999; }),
              "tensor q: data_offsets [0, 99999]: must be where it begins and ends in the 892 bytes behind the header" +
                  again);
    EXPECT_EQ(
        with_header([](json& header) {
            header["q"]["data_offsets"] = {384, 0};
        }),
        "tensor q: data_offsets [384, 0]: must be where it begins and ends in the 892 bytes behind the header" + again);
    EXPECT_EQ(with_header([](json& header) {
                  header["k"]["data_offsets"] = {0, 288};
              }),
              "tensors overlap at byte 0 behind the header: tensors must follow each other" + again);
    EXPECT_EQ(with_header([](json& header) { header.erase("v"); }),
              "there is a hole at byte 672 behind the header: tensors must follow each other" + again);
    EXPECT_EQ(with_header([](json& header) { header.erase("token_ids"); }),
              "40 bytes behind the last tensor: the file must end with it" + again);
    EXPECT_EQ(with_header([](json& header) {
                  header["q"]["shape"] = {std::int64_t{1} << 62, 4, 8};
              }),
              "tensor q: 384 bytes are not those of shape [4611686018427387904, 4, 8] in BF16" + again);
    EXPECT_EQ(with_header([](json& header) {
                  header["q"]["shape"] = {-6, -4, 8};
              }),
              "tensor q: shape = [-6,-4,8]: must be whole numbers from 0 to 2^63 - 1" + again);
    EXPECT_EQ(with_header([](json& header) {
                  header["q"]["shape"] = {6.0, 4, 8};
              }),
              "tensor q: shape = [6.0,4,8]: must be whole numbers from 0 to 2^63 - 1" + again);
    EXPECT_EQ(with_header([](json& header) { header["q"]["dtype"] = "F17"; }),
              "tensor q: dtype F17 is none of safetensors; traces have F32, BF16 or F16" + again);
    EXPECT_EQ(with_header([](json& header) { header["q"]["more"] = 1; }),
              "tensor q: must have dtype, shape and data_offsets, nothing else" + again);
    EXPECT_EQ(with_header([](json& header) { header["__metadata__"]["tokens"] = 10; }),
              "metadata tokens = 10: must be a string" + again);
    EXPECT_EQ(with_header([](json& header) { header["__metadata__"] = "x"; }),
              "__metadata__ is no JSON object" + again);
    EXPECT_EQ(with_header([](json& header) { header.erase("__metadata__"); }),
              "metadata format is missing; what a qkv-trace holds is in experiments/trace/README.md");
}

TEST(DamagedContainer, HeadersThatAreNoJson) {
    const auto header = [](const std::string& text) { return answer(safetensors_bytes(text, "")); };
    const std::string invalid = "header: is no valid JSON: ";
    EXPECT_EQ(header(R"({"q":{},"q":{}})"), invalid + "has the key \"q\" twice");
    EXPECT_EQ(header(R"({"__metadata__":{"a":"1","a":"2"}})"), invalid + "has the key \"a\" twice");
    EXPECT_EQ(header("{\"a").substr(0, invalid.size() + 35), invalid + "parse error at line 1, column 4: sy");
    EXPECT_EQ(header("{\"a\":" + std::string(50'000'000, '[')), invalid + "is more than 8 levels deep");
    std::string many = "{\"a\":[0";
    for (int i = 0; i < 1 << 20; ++i) {
        many += ",0";
    }
    EXPECT_EQ(header(many + "]}"), invalid + "has more than 1048576 values");
    EXPECT_EQ(header("{\"a\xff\":{}}").substr(0, invalid.size() + 11), invalid + "parse error");
    EXPECT_EQ(header("{\"a\":1e999}").substr(0, invalid.size() + 15), invalid + "number overflow");
    EXPECT_EQ(header("{} {}").substr(0, invalid.size() + 11), invalid + "parse error");
    EXPECT_EQ(header("{\"a\nb\":0}").find('\n'), std::string::npos);
    EXPECT_EQ(header("{}      "),
              "metadata format is missing; what a qkv-trace holds is in experiments/trace/README.md");
    const std::string bytes = safetensors_bytes(sample());
    EXPECT_EQ(answer(bytes.substr(0, bytes.size() - 1)).substr(0, 30), "tensor token_ids: data_offsets");
    EXPECT_EQ(answer(bytes + "x"), "1 bytes behind the last tensor: the file must end with it" + again);
    std::string longer = bytes;
    longer[7] = '\x7f';
    EXPECT_EQ(answer(longer).substr(0, 17), "header of 9151314");
}

std::string npz_of(const std::vector<std::pair<std::string, std::string>>& members) {
    return answer(zip_bytes(members, false));
}

TEST(DamagedContainer, ArraysThatAreNoTensors) {
    const auto array = [](const std::string& npy) { return npz_of({{"q.npy", npy}}); };
    EXPECT_EQ(npz_of({{"q.txt", "x"}}), "q.txt: is no array; an .npz file holds nothing else");
    EXPECT_EQ(array("x"), "member q.npy: ends in the middle of its array; write it again with numpy.savez");
    EXPECT_EQ(array(std::string(100, 'x')), "q.npy: is no .npy file");
    EXPECT_EQ(array(npy_bytes("|O", "(3,)", "")),
              "q.npy: holds pickled objects, which are never loaded; give it a plain dtype");
    EXPECT_EQ(array("\x93NUMPY\4" + std::string(100, '\0')),
              "q.npy: is a .npy file of version 4.0; versions 1 to 3 are read");
    EXPECT_EQ(array("\x93NUMPY\2" + std::string("\0\xff\xff\xff\xff", 5) + std::string(100, ' ')),
              "q.npy: has a header of 4294967295 bytes, at most 65536 are read");
    EXPECT_EQ(array(npy_bytes("<f4", "(3, 4)", std::string(44, '\0'))),
              "q.npy: 44 bytes are not those of shape [3, 4] in <f4");
    EXPECT_EQ(array(npy_bytes("<f4", "(4611686018427387904, 4)", "")),
              "q.npy: 0 bytes are not those of shape [4611686018427387904, 4] in <f4");
    EXPECT_EQ(array(npy_bytes("<f4", "(-1,)", "")).substr(0, 60),
              "q.npy: its header is none that numpy writes, from \"-1,), }  ");
    std::string fortran = npy_bytes("<f4", "(1,)", "0000");
    fortran.replace(fortran.find("False"), 5, "True ");
    EXPECT_EQ(array(fortran), "q.npy: is in Fortran's order; save numpy.ascontiguousarray of it");
    EXPECT_EQ(npz_of({{"__metadata__.npy", npy_bytes("<f4", "(1,)", "0000")}}),
              "__metadata__.npy: must be one string: numpy.savez(..., __metadata__=json.dumps(metadata))");
    EXPECT_EQ(npz_of({{"__metadata__.npy", npy_bytes("|S8", "()", "{\"a\": 1}")}}),
              "__metadata__.npy: a = 1: must be a string");
    EXPECT_EQ(npz_of({{"__metadata__.npy", npy_bytes("|S2", "()", "[]")}}), "__metadata__.npy: must be a JSON object");
    EXPECT_EQ(npz_of({{"__metadata__.npy", npy_bytes("<U1", "()", std::string("\0\xd8\0\0", 4))}}).substr(0, 30),
              "__metadata__: is no valid JSON");
    EXPECT_EQ(npz_of({{"__metadata__.npy", npy_bytes("|S2", "()", "{}")}}),
              "metadata format is missing; what a qkv-trace holds is in experiments/trace/README.md");
    std::string big = npz_bytes(sample(), false);
    for (std::size_t at = big.find("<u2"); at != std::string::npos; at = big.find("<u2")) {
        big.replace(at, 3, ">u2");
    }
    EXPECT_EQ(answer(big), "tensor q has elements >u2: must be bf16, as metadata dtype says");
}

TEST(DamagedContainer, ZipArchives) {
    const std::string damaged = "damaged zip archive: ";
    const std::string rewrite = "; write it again with numpy.savez";
    EXPECT_EQ(npz_of({{"q.npy", ""}, {"q.npy", ""}}), damaged + "two members are called q.npy" + rewrite);
    for (const bool deflated : {false, true}) {
        const std::string whole = npz_bytes(sample(), deflated);
        EXPECT_EQ(answer(whole), "accepted");
        EXPECT_EQ(answer(whole.substr(0, whole.size() - 1)),
                  damaged + "it does not end with its directory (cut, or with something behind it)" + rewrite);
        const std::size_t directory = whole.find("PK\1\2");
        std::string changed = whole;
        changed[directory + 8] = 1;
        EXPECT_EQ(answer(changed), damaged + "member q.npy is encrypted" + rewrite);
        changed = whole;
        changed[directory + 10] = 12;
        EXPECT_EQ(answer(changed), damaged + "member q.npy is packed by method 12" + rewrite);
        changed = whole;
        changed[directory + 42] = 1;
        EXPECT_EQ(answer(changed),
                  damaged + "member q.npy does not stand at byte 1, where the directory has it" + rewrite);
        changed = whole;
        changed.replace(directory + 20, 4, "\xfe\xff\xff\x7f");
        EXPECT_EQ(answer(changed).substr(0, damaged.size() + 23), damaged + "member q.npy cannot be ");
        changed = whole;
        changed[300] = static_cast<char>(changed[300] ^ 4);  // a number
        const std::string said = answer(changed);
        EXPECT_TRUE(said.find("is damaged: ") != std::string::npos) << said;
    }
}

TEST(DamagedContainer, AMetadataTextPaddedByNumpyIsTaken) {
    TestTrace trace = sample();
    const std::string text = nlohmann::json(trace.metadata).dump();
    std::vector<std::pair<std::string, std::string>> members;
    for (const TestTensor& tensor : trace.tensors) {
        if (tensor.name != "token_ids") {
            const std::string shape = "(" + std::to_string(tensor.shape[0]) + ", " + std::to_string(tensor.shape[1]) +
                                      ", " + std::to_string(tensor.shape[2]) + ")";
            members.emplace_back(tensor.name + ".npy", npy_bytes("|V2", shape, tensor.bytes));  // bfloat16 of ml_dtypes
        }
    }
    members.emplace_back("__metadata__.npy",
                         npy_bytes("|S" + std::to_string(text.size() + 8), "()", text + std::string(8, '\0')));
    EXPECT_EQ(answer(zip_bytes(members, true)), "accepted");
}

/// A HDF5 trace, changed through the library.
std::string with_hdf5(const std::function<void(hid_t)>& change, Hdf5Layout layout = Hdf5Layout::contiguous) {
    const TemporaryFolder folder;
    const std::string path = folder / "x.h5";
    write_hdf5(path, sample(), layout);
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    change(file);
    EXPECT_GE(H5Fclose(file), 0);
    return answer_to(path);
}

void make(hid_t file, const char* name, hid_t type, const std::vector<hsize_t>& shape, hid_t properties) {
    H5Ldelete(file, name, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    EXPECT_GE(H5Dclose(H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT)), 0);
    H5Sclose(space);
}

TEST(DamagedContainer, Hdf5ThatKeepsItsNumbersElsewhere) {
    EXPECT_EQ(with_hdf5([](hid_t) {}), "accepted");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  H5Ldelete(file, "q", H5P_DEFAULT);
                  H5Lcreate_external("other.h5", "/q", file, "q", H5P_DEFAULT, H5P_DEFAULT);
              }),
              "q: is a link to something else; put the dataset itself there");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
                  H5Pset_external(properties, "/etc/passwd", 0, 384);
                  make(file, "q", H5T_STD_U16LE, {6, 4, 8}, properties);
                  H5Pclose(properties);
              }),
              "q: has its numbers in another file; write them into this one");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
                  const hsize_t shape[] = {6, 4, 8};
                  const hid_t space = H5Screate_simple(3, shape, nullptr);
                  H5Pset_virtual(properties, space, "other.h5", "/q", space);
                  make(file, "q", H5T_STD_U16LE, {6, 4, 8}, properties);
                  H5Sclose(space);
                  H5Pclose(properties);
              }),
              "q: is a view of other datasets (virtual); write the numbers themselves");
}

TEST(DamagedContainer, Hdf5ThatWasNeverWritten) {
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  make(file, "q", H5T_STD_U16LE, {6, 4, 8}, H5P_DEFAULT);
              }),
              "q: was never written");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
                  const hsize_t chunk[] = {4, 4, 8};
                  H5Pset_chunk(properties, 3, chunk);
                  make(file, "q", H5T_STD_U16LE, {6, 4, 8}, properties);
                  H5Pclose(properties);
              }),
              "q: has 0 of its 2 chunks: the rest was never written");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
                  const hsize_t chunk[] = {1 << 20, 4, 256};
                  H5Pset_chunk(properties, 3, chunk);
                  make(file, "q", H5T_STD_U16LE, {std::uint64_t{1} << 40, 4, 256}, properties);
                  H5Pclose(properties);
              }),
              "q: has chunks of shape [1048576, 4, 256]; write it without chunks, or with chunks of at most 1 GiB");
}

TEST(DamagedContainer, Hdf5OfOtherTypesAndFilters) {
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  make(file, "q", H5T_IEEE_F64LE, {6, 4, 8}, H5P_DEFAULT);
              }),
              "tensor q has elements 8-byte float: must be bf16, as metadata dtype says");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  make(file, "q", H5T_STD_U16BE, {6, 4, 8}, H5P_DEFAULT);
              }),
              "tensor q has elements 2-byte integer, big-endian: must be bf16, as metadata dtype says");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
                  const hsize_t chunk[] = {4, 4, 8};
                  H5Pset_chunk(properties, 3, chunk);
                  H5Pset_scaleoffset(properties, H5Z_SO_INT, 4);
                  make(file, "q", H5T_STD_U16LE, {6, 4, 8}, properties);
                  H5Pclose(properties);
              }),
              "q: uses filter 6 \"scaleoffset\"; write it without compression, or with gzip");
    EXPECT_EQ(with_hdf5([](hid_t file) {
                  H5Adelete(file, "q_start");
                  const hid_t scalar = H5Screate(H5S_SCALAR);
                  H5Aclose(H5Acreate2(file, "q_start", H5T_STD_I64LE, scalar, H5P_DEFAULT, H5P_DEFAULT));
                  H5Sclose(scalar);
              }),
              "attribute q_start: must be one string (all metadata are text, numbers too)");
    EXPECT_EQ(with_hdf5([](hid_t file) { H5Gclose(H5Gcreate2(file, "more", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)); }),
              "accepted");
}

TEST(DamagedContainer, Hdf5ThatIsCut) {
    const TemporaryFolder folder;
    const std::string path = folder / "x.h5";
    write_hdf5(path, sample(), Hdf5Layout::contiguous);
    const std::string whole = slurp(path);
    spill(path, whole.substr(0, whole.size() / 2));
    EXPECT_EQ(answer_to(path), "HDF5 cannot open it: it is damaged, or another program has it open for writing");
}

}  // namespace
}  // namespace mobalab::experiments
