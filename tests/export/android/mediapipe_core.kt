package com.google.mediapipe.tasks.core

enum class Delegate { CPU, GPU }

class BaseOptions {
    class Builder {
        fun setModelAssetPath(path: String): Builder = this
        fun setDelegate(delegate: Delegate): Builder = this
        fun build(): BaseOptions = BaseOptions()
    }

    companion object {
        fun builder(): Builder = Builder()
    }
}
