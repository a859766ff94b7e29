# Code by way of a bucket, which is in another place than Lambda; the object is Terraform's too.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "endpoint" {}
variable "name" {}
variable "package" {}
variable "store" {}
variable "store_key" {}
variable "store_secret" {}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    lambda = var.endpoint
  }
}

provider "aws" {
  alias                       = "store"
  access_key                  = var.store_key
  secret_key                  = var.store_secret
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    s3 = var.store
  }
}

resource "aws_s3_object" "code" {
  provider    = aws.store
  bucket      = "code"
  key         = "terraform/${var.name}.zip"
  source      = var.package
  source_hash = filemd5(var.package)
}

resource "aws_lambda_function" "shop" {
  function_name     = var.name
  s3_bucket         = aws_s3_object.code.bucket
  s3_key            = aws_s3_object.code.key
  s3_object_version = aws_s3_object.code.version_id
  role              = "arn:aws:iam::000000000000:role/shop"
  handler           = "app.handler"
  runtime           = "python3.13"
  layers            = [aws_lambda_layer_version.words.arn]

  environment {
    variables = {
      GREETING = "hello"
    }
  }
}

resource "aws_lambda_layer_version" "words" {
  layer_name = "${var.name}-words"
  s3_bucket  = aws_s3_object.code.bucket
  s3_key     = aws_s3_object.code.key
}
