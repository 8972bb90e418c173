// Scores one image with an exported graph: predict MODEL PIXELS THRESHOLD, where MODEL is model.xml or model.onnx, and
// PIXELS is a file of H x W x 3 bytes, made by the steps in PREPROCESS.md. Prints score and verdict as JSON.
//
//   c++ -std=c++17 predict.cpp -o predict -I$OPENVINO/include $OPENVINO/libs/libopenvino.so.* -Wl,-rpath,$OPENVINO/libs
//
// OpenVINO's Python package has the headers and libraries; OPENVINO is its folder, where `openvino.__file__` is.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <vector>

#include <openvino/openvino.hpp>

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::cerr << "give MODEL PIXELS THRESHOLD\n";
        return 2;
    }
    ov::Core core;
    // In single precision: by default OpenVINO computes in bfloat16 if the processor supports it.
    auto compiled = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));

    std::ifstream file(argv[2], std::ios::binary);
    std::vector<std::uint8_t> pixels((std::istreambuf_iterator<char>(file)), {});

    const auto port = compiled.input("images");
    const auto sides = port.get_partial_shape();  // any or 1, H, W, 3
    const std::size_t height = sides[1].get_length(), width = sides[2].get_length();
    ov::Tensor images(port.get_element_type(), {1, height, width, 3});
    if (pixels.size() != images.get_size()) {
        std::cerr << argv[2] << " has " << pixels.size() << " bytes, not " << images.get_size() << "\n";
        return 1;
    }
    if (port.get_element_type() == ov::element::f32)
        std::copy(pixels.begin(), pixels.end(), images.data<float>());
    else
        std::copy(pixels.begin(), pixels.end(), images.data<std::uint8_t>());

    auto request = compiled.create_infer_request();
    request.set_tensor("images", images);
    request.infer();
    const float score = request.get_tensor("score").data<float>()[0];
    std::cout << std::setprecision(9) << "{\"score\": " << score << ", \"is_anomaly\": "
              << (score > std::strtod(argv[3], nullptr) ? "true" : "false") << "}\n";
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
