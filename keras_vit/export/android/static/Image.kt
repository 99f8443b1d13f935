package %package

import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import androidx.exifinterface.media.ExifInterface
import java.io.ByteArrayInputStream
import java.io.IOException

/** An image as its file stores it, and how to turn it upright. */
class Image(val bitmap: Bitmap, val rotationDegrees: Int, val isFlipped: Boolean) {

    /** Returns the image upright: mirrored left to right first, then turned clockwise. */
    fun upright(): Bitmap {
        if (rotationDegrees == 0 && !isFlipped) return bitmap
        val matrix = Matrix()
        if (isFlipped) matrix.postScale(-1f, 1f)
        matrix.postRotate(rotationDegrees.toFloat())
        // Quarter turns move pixels and need no filter.
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, matrix, false)
    }

    companion object {
        /** Decodes a JPEG, PNG, WebP or HEIF file at its full size; transparent parts become white. */
        fun decode(bytes: ByteArray): Image {
            val options = BitmapFactory.Options().apply { inPreferredConfig = Bitmap.Config.ARGB_8888 }
            val decoded = BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)
                ?: throw IOException("not an image that Android can read")
            val orientation = ExifInterface(ByteArrayInputStream(bytes))
                .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
            val (degrees, flipped) = when (orientation) {
                ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> 0 to true
                ExifInterface.ORIENTATION_ROTATE_180 -> 180 to false
                ExifInterface.ORIENTATION_FLIP_VERTICAL -> 180 to true
                ExifInterface.ORIENTATION_TRANSPOSE -> 270 to true
                ExifInterface.ORIENTATION_ROTATE_90 -> 90 to false
                ExifInterface.ORIENTATION_TRANSVERSE -> 90 to true
                ExifInterface.ORIENTATION_ROTATE_270 -> 270 to false
                else -> 0 to false
            }
            return Image(onWhite(decoded), degrees, flipped)
        }

        private fun onWhite(bitmap: Bitmap): Bitmap {
            if (!bitmap.hasAlpha()) return bitmap
            val page = Bitmap.createBitmap(bitmap.width, bitmap.height, Bitmap.Config.ARGB_8888)
            Canvas(page).apply {
                drawColor(Color.WHITE)
                drawBitmap(bitmap, 0f, 0f, null)
            }
            return page
        }
    }
}

/** Returns a bitmap whose pixels can be read: those of a hardware bitmap cannot. */
fun Bitmap.readable(): Bitmap =
    if (config == Bitmap.Config.ARGB_8888) this else copy(Bitmap.Config.ARGB_8888, false)

/** A class and its probability, 0 to 1. */
data class Label(val name: String, val probability: Float)

/** Returns the lines of a text file in the app's assets. */
fun Context.lines(asset: String): List<String> = assets.open(asset).bufferedReader().useLines { it.toList() }
